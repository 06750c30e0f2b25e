"""The command line, its tables and progress; heavy libraries load only inside the commands."""
