SELECT
    sum(rows),
    min(rows),
    max(rows),
    sum(rows <> 1)
FROM (
    SELECT count(created.id) AS rows
    FROM requested LEFT JOIN created USING (key)
    GROUP BY requested.key
)
