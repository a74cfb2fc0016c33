"""Functions behind the subcommands: they turn settings into typed results, and never print or import each other."""
