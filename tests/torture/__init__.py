"""What must survive: processes and databases that die under load, again and again, at moments nobody chose."""
