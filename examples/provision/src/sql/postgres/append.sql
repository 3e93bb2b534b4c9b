INSERT INTO ledger (kind, team, name, key, attempt, fence, outcome) VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING id
