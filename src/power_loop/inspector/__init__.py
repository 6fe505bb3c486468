"""The local inspector: what happened in a database's sessions, in the browser (``power-loop inspect``).

Read-only, on the loopback, behind a token. `reads` asks the database, `timeline`, `requests` and `charts` make sense
of the rows, `app` serves them as JSON beside the static page, `guard` decides who may ask.
"""
