INSERT INTO created (key, caller) VALUES (?1, ?2)
