"""The command line: parse, call one workflow, show its result. Heavy libraries are imported only when needed."""
