"""The command line: parse, call one workflow, show its result. Only imports what is instant."""
