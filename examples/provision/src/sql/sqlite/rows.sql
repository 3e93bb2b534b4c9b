SELECT id, kind, team, name, key, attempt, fence, outcome, at FROM ledger ORDER BY id;
