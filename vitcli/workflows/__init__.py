"""The functions behind the subcommands: settings in, typed results out. They never print, and none imports another."""
