-- One statement reads one snapshot: another process may be creating the tables now.
SELECT
    (SELECT user_version FROM pragma_user_version),
    (SELECT count(*) FROM main.sqlite_schema WHERE name IN (
        'idem_record', 'idem_record_digest', 'idem_record_inserted', 'idem_record_expires_earlier',
        'idem_zone', 'idem_zone_expires_at', 'idem_meta'))
