"""The command ``fang dev``: a Postgres, the tables, pools that take up changes, and the page, in one."""
