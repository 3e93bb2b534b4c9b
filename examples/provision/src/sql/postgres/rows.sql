SELECT id, kind, team, name, key, attempt, fence, outcome,
    to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
FROM ledger ORDER BY id
