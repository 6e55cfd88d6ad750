"""What a run can be told: every setting, declared once, and files of settings."""
