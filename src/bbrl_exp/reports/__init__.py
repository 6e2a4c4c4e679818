"""Reports over folders of runs: settings compared with their uncertainty, as one page, tables and pictures."""
