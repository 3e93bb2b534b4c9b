INSERT INTO main.idem_record (digest, expires_at, key, record) VALUES (?1, ?2, ?3, ?4)
