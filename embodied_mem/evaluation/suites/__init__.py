"""The built-in suites, one file each; a new suite is a new file here or in a plug-in."""
