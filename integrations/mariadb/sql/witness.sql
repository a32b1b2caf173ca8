-- The roles that are active when an account has logged in, PUBLIC among them, and
-- the privileges that it has then, by whatever way: on a whole database, and on
-- tables of it.
WITH RECURSIVE active AS (
	SELECT m.Role AS name
	FROM mysql.global_priv g
	JOIN mysql.roles_mapping m ON m.Host = g.Host AND m.User = g.User AND m.Role = JSON_VALUE(g.Priv, '$.default_role')
	WHERE g.User = ? AND g.Host <> ''
	UNION SELECT 'PUBLIC'
	UNION
	SELECT m.Role FROM mysql.roles_mapping m JOIN active a ON m.Host = '' AND m.User = a.name
)
SELECT 'role', name, '' FROM active
UNION ALL
SELECT 'all', '', CONCAT_WS(',', IF(access & 1, 'Select', NULL), IF(access & 2, 'Insert', NULL), IF(access & 4, 'Update', NULL), IF(access & 8, 'Delete', NULL),
	IF(access & 16, 'Create', NULL), IF(access & 32, 'Drop', NULL), IF(access & 2048, 'Index', NULL), IF(access & 4096, 'Alter', NULL))
FROM (SELECT CAST(JSON_VALUE(Priv, '$.access') AS UNSIGNED) AS access FROM mysql.global_priv
	WHERE (Host = '' AND User IN (SELECT name FROM active)) OR (Host <> '' AND User = ?)) whole
UNION ALL
SELECT 'all', '', CONCAT_WS(',', IF(Select_priv = 'Y', 'Select', NULL), IF(Insert_priv = 'Y', 'Insert', NULL), IF(Update_priv = 'Y', 'Update', NULL), IF(Delete_priv = 'Y', 'Delete', NULL),
	IF(Create_priv = 'Y', 'Create', NULL), IF(Drop_priv = 'Y', 'Drop', NULL), IF(Index_priv = 'Y', 'Index', NULL), IF(Alter_priv = 'Y', 'Alter', NULL))
FROM mysql.db
WHERE ((Host = '' AND User IN (SELECT name FROM active)) OR (Host <> '' AND User = ?)) AND ? LIKE Db
UNION ALL
SELECT 'table', Table_name, Table_priv
FROM mysql.tables_priv
WHERE ((Host = '' AND User IN (SELECT name FROM active)) OR (Host <> '' AND User = ?)) AND Db = ?
