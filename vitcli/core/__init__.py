"""The foundation of every other room; standard library only."""
