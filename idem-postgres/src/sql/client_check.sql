-- Checks whether the server can detect during a statement that its client is gone. If it cannot, it refuses the setting.
SELECT pg_catalog.set_config('client_connection_check_interval', '1000', true)
