-- In an empty zone nothing can expire.
UPDATE main.idem_zone SET expires_at = coalesce(
    (SELECT min(expires_at) FROM main.idem_record WHERE id BETWEEN ?1 << 7 AND ?1 << 7 | 127),
    9223372036854775807)
WHERE zone = ?1
