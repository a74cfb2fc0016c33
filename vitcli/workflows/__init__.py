"""What each subcommand does, as plain typed functions: settings in, result out. They never print."""
