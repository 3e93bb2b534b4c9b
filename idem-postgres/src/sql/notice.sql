-- Whether the server can look, in the midst of a statement, whether its client is still there. It says so by an error.
SELECT pg_catalog.set_config('client_connection_check_interval', '1000', true)
