import pg from 'pg';
import { CURRENT_FORMAT } from '@tokenmirror/core';

export interface Names {
  readonly schema: string;
  readonly authTable: string;
  readonly configTable: string;
}

/** The id of CLIProxyAPI's only row in its config table. */
export const CONFIG_ROW_ID = 'config';

const quote = (name: string): string => pg.escapeIdentifier(name);
const literal = (text: string): string => pg.escapeLiteral(text);

/**
 * All SQL of the store. CLIProxyAPI's own tables hold the documents exactly as it writes them; what is ours stands beside them, kept
 * up by triggers, so that writes of CLIProxyAPI itself get a revision, a history and a notification like ours.
 *
 * All writers of a schema, foreign ones included, take one advisory lock before they touch a row. So revisions are committed in
 * their order, a cursor never skips one, and a compare-and-set is a look at the entry under the lock.
 */
export function statements({ schema, authTable, configTable }: Names) {
  const at = (name: string): string => `${quote(schema)}.${quote(name)}`;
  const [auth, config] = [at(authTable), at(configTable)];
  const [meta, entries, history, sequence] = [
    at('tokenmirror_meta'),
    at('tokenmirror_entries'),
    at('tokenmirror_history'),
    at('tokenmirror_revision'),
  ];
  const channel = channelOf(schema);
  const lock = `pg_advisory_xact_lock(hashtextextended(${literal(`tokenmirror ${schema}`)}, 0))`;
  const nextRevision = `nextval(${literal(`${quote(schema)}.tokenmirror_revision`)}::regclass)`;
  const keyOf = (row: string): string =>
    `CASE TG_ARGV[0] WHEN 'auth' THEN 'auths/' || ${row}.id WHEN 'config' THEN CASE ${row}.id WHEN '${CONFIG_ROW_ID}' THEN 'config/config.yaml' ELSE 'config/' || ${row}.id END END`;
  const author = `nullif(current_setting('tokenmirror.author', true), '')`;

  const documentTable = (table: string, contentType: string): string =>
    `CREATE TABLE IF NOT EXISTS ${table} (id TEXT PRIMARY KEY, content ${contentType} NOT NULL, created_at TIMESTAMPTZ NOT NULL DEFAULT NOW(), updated_at TIMESTAMPTZ NOT NULL DEFAULT NOW())`;

  const triggerFunction = (name: string, body: string): string =>
    `CREATE OR REPLACE FUNCTION ${at(name)}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$\nBEGIN\n${body}\n  RETURN NULL;\nEND\n$body$`;

  const noteLive = `
  INSERT INTO ${entries} AS entry (key, revision, state, changed_at, author)
    SELECT ${keyOf('row')}, ${nextRevision}, 'live', clock_timestamp(), ${author} FROM new_rows row
    ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, state = 'live', changed_at = excluded.changed_at, author = excluded.author;
  IF FOUND THEN PERFORM pg_notify('${channel}', ''); END IF;`;
  const noteGone = (rows: string, state: 'deleted' | 'absent'): string => `
  UPDATE ${entries} entry SET revision = ${nextRevision}, state = '${state}', changed_at = clock_timestamp(), author = ${author}
    FROM ${rows} WHERE entry.key = gone.key AND entry.state = 'live';
  IF FOUND THEN PERFORM pg_notify('${channel}', ''); END IF;`;
  const keep = (rows: string, reason: string): string => `
  INSERT INTO ${history} (key, content, reason, author) SELECT ${keyOf('before')}, before.content::text, '${reason}', ${author} FROM ${rows};`;

  const triggersOn = (table: string, kind: 'auth' | 'config'): string[] => {
    const trigger = (name: string, when: string, referencing: string, fn: string): string[] => [
      `DROP TRIGGER IF EXISTS ${name} ON ${table}`,
      `CREATE TRIGGER ${name} ${when} ON ${table} ${referencing} FOR EACH STATEMENT EXECUTE FUNCTION ${at(fn)}('${kind}')`,
    ];
    return [
      ...trigger('tokenmirror_lock', 'BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE', '', 'tokenmirror_lock'),
      ...trigger('tokenmirror_inserted', 'AFTER INSERT', 'REFERENCING NEW TABLE AS new_rows', 'tokenmirror_inserted'),
      ...trigger('tokenmirror_updated', 'AFTER UPDATE', 'REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows', 'tokenmirror_updated'),
      ...trigger('tokenmirror_deleted', 'AFTER DELETE', 'REFERENCING OLD TABLE AS old_rows', 'tokenmirror_deleted'),
      ...trigger('tokenmirror_truncated', 'AFTER TRUNCATE', '', 'tokenmirror_truncated'),
    ];
  };

  /** Gives a row that no trigger saw (made before there were any, or while they were disabled) its entry. */
  const adoptRows = (rows: string): string => `INSERT INTO ${entries} (key, revision, state)
      SELECT found.key, ${nextRevision}, 'live' FROM (${rows}) found
      WHERE NOT EXISTS (SELECT FROM ${entries} entry WHERE entry.key = found.key AND entry.state = 'live')
      ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, state = 'live'`;

  const writeFunction = `CREATE OR REPLACE FUNCTION ${at('tokenmirror_write')}(writer text, keys text[], expected text[], contents text[], lineages text[], history_length int)
    RETURNS TABLE (key text, revision text) LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $body$
#variable_conflict use_column
DECLARE
  asked CONSTANT text[] := keys;
BEGIN
  PERFORM set_config('tokenmirror.author', writer, true);
  PERFORM ${lock};
  SELECT array_agg(input.key), array_agg(input.content), array_agg(input.lineage) INTO keys, contents, lineages
    FROM unnest(keys, expected, contents, lineages) AS input(key, expected, content, lineage)
      LEFT JOIN ${entries} entry ON entry.key = input.key
      LEFT JOIN ${auth} a ON input.key LIKE 'auths/%' AND a.id = substr(input.key, 7)
      LEFT JOIN ${config} c ON input.key = 'config/config.yaml' AND c.id = '${CONFIG_ROW_ID}'
    WHERE input.expected = CASE
      WHEN (a.id IS NOT NULL OR c.id IS NOT NULL) AND entry.state IS DISTINCT FROM 'live' THEN 'not seen yet'
      WHEN entry.key IS NULL OR entry.state = 'absent' OR (entry.state = 'live' AND entry.content IS NULL AND a.id IS NULL AND c.id IS NULL) THEN 'absent'
      ELSE entry.revision::text END;
  IF cardinality(keys) IS DISTINCT FROM cardinality(asked) THEN
    ${adoptRows(`SELECT 'auths/' || id AS key FROM ${auth} WHERE id IN (SELECT substr(name, 7) FROM unnest(asked) name WHERE name LIKE 'auths/%') UNION ALL SELECT 'config/config.yaml' FROM ${config} WHERE id = '${CONFIG_ROW_ID}' AND 'config/config.yaml' = ANY(asked)`)};
  END IF;
  IF keys IS NULL THEN RETURN; END IF;
  IF EXISTS (SELECT FROM unnest(keys, contents) AS input(key, content) WHERE input.key LIKE 'auths/%' AND input.content IS NOT NULL) THEN
    INSERT INTO ${auth} (id, content) SELECT substr(input.key, 7), input.content::jsonb FROM unnest(keys, contents) AS input(key, content) WHERE input.key LIKE 'auths/%' AND input.content IS NOT NULL
      ON CONFLICT (id) DO UPDATE SET content = excluded.content, updated_at = NOW();
  END IF;
  IF EXISTS (SELECT FROM unnest(keys, contents) AS input(key, content) WHERE input.key LIKE 'auths/%' AND input.content IS NULL) THEN
    DELETE FROM ${auth} WHERE id IN (SELECT substr(input.key, 7) FROM unnest(keys, contents) AS input(key, content) WHERE input.key LIKE 'auths/%' AND input.content IS NULL);
  END IF;
  IF 'config/config.yaml' = ANY(keys) THEN
    INSERT INTO ${config} (id, content) SELECT '${CONFIG_ROW_ID}', input.content FROM unnest(keys, contents) AS input(key, content) WHERE input.key = 'config/config.yaml' AND input.content IS NOT NULL
      ON CONFLICT (id) DO UPDATE SET content = excluded.content, updated_at = NOW();
    DELETE FROM ${config} WHERE id = '${CONFIG_ROW_ID}' AND EXISTS (SELECT FROM unnest(keys, contents) AS input(key, content) WHERE input.key = 'config/config.yaml' AND input.content IS NULL);
  END IF;
  INSERT INTO ${entries} AS entry (key, revision, state, content, author)
    SELECT input.key, ${nextRevision}, CASE WHEN input.content IS NULL THEN 'deleted' ELSE 'live' END, input.content, writer
    FROM unnest(keys, contents) AS input(key, content) WHERE input.key NOT LIKE 'auths/%' AND input.key <> 'config/config.yaml'
    ON CONFLICT (key) DO UPDATE SET revision = excluded.revision, state = excluded.state, content = excluded.content, changed_at = clock_timestamp(), author = excluded.author;
  IF FOUND THEN PERFORM pg_notify('${channel}', ''); END IF;
  DELETE FROM ${history} WHERE id IN (SELECT kept.id FROM (SELECT id, row_number() OVER (PARTITION BY key ORDER BY id DESC) AS place FROM ${history} WHERE key = ANY(keys)) kept WHERE kept.place > history_length);
  RETURN QUERY UPDATE ${entries} entry SET lineage = string_to_array(input.lineage, ',') FROM unnest(keys, lineages) AS input(key, lineage) WHERE entry.key = input.key RETURNING entry.key, entry.revision::text;
END
$body$`;

  return {
    channel,

    /** The objects of the schema, each with what makes it. */
    tables: [
      { name: `${schema}.${authTable}`, sql: [documentTable(auth, 'JSONB')] },
      { name: `${schema}.${configTable}`, sql: [documentTable(config, 'TEXT')] },
      { name: `${schema}.tokenmirror_meta`, sql: [`CREATE TABLE IF NOT EXISTS ${meta} (name TEXT PRIMARY KEY, value JSONB NOT NULL)`] },
      {
        name: `${schema}.tokenmirror_entries`,
        sql: [
          `CREATE TABLE IF NOT EXISTS ${entries} (key TEXT PRIMARY KEY, revision BIGINT NOT NULL, state TEXT NOT NULL CHECK (state IN ('live', 'deleted', 'absent')), lineage TEXT[] NOT NULL DEFAULT '{}', content TEXT, changed_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(), author TEXT)`,
          `CREATE UNIQUE INDEX IF NOT EXISTS tokenmirror_entries_revision ON ${entries} (revision)`,
        ],
      },
      {
        name: `${schema}.tokenmirror_history`,
        sql: [
          `CREATE TABLE IF NOT EXISTS ${history} (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, key TEXT NOT NULL, content TEXT NOT NULL, reason TEXT NOT NULL, author TEXT, at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp())`,
          `CREATE INDEX IF NOT EXISTS tokenmirror_history_key ON ${history} (key, id DESC)`,
        ],
      },
      { name: `${schema}.tokenmirror_revision`, sql: [`CREATE SEQUENCE IF NOT EXISTS ${sequence}`] },
    ],
    triggers: [
      triggerFunction('tokenmirror_lock', `  PERFORM ${lock};`),
      triggerFunction('tokenmirror_inserted', noteLive),
      triggerFunction(
        'tokenmirror_updated',
        keep(
          'old_rows before JOIN new_rows after ON after.id = before.id WHERE after.content IS DISTINCT FROM before.content',
          'replaced',
        ) +
          noteGone(
            `(SELECT ${keyOf('before')} AS key FROM old_rows before WHERE NOT EXISTS (SELECT FROM new_rows after WHERE after.id = before.id)) gone`,
            'deleted',
          ) +
          noteLive,
      ),
      triggerFunction(
        'tokenmirror_deleted',
        keep('old_rows before', 'deleted') + noteGone(`(SELECT ${keyOf('before')} AS key FROM old_rows before) gone`, 'deleted'),
      ),
      triggerFunction(
        'tokenmirror_truncated',
        noteGone(
          `(SELECT key FROM ${entries} WHERE key LIKE CASE TG_ARGV[0] WHEN 'auth' THEN 'auths/%' ELSE 'config/%' END) gone`,
          'absent',
        ),
      ),
      ...triggersOn(auth, 'auth'),
      ...triggersOn(config, 'config'),
      writeFunction,
    ],

    serverVersion: `SELECT current_setting('server_version_num')::int AS version, pg_is_in_recovery() AS standby`,
    createSchema: `CREATE SCHEMA IF NOT EXISTS ${quote(schema)}`,
    schemaExists: { text: 'SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1) AS found', values: [schema] },
    existing: {
      text: `SELECT c.relname AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = ANY($2) AND c.relkind IN ('r', 'p', 'S')`,
      values: [schema, [authTable, configTable, 'tokenmirror_meta', 'tokenmirror_entries', 'tokenmirror_history', 'tokenmirror_revision']],
    },
    /** Counts what is attached to the tables: the triggers, and the function that writes. */
    attached: {
      text: `SELECT ((SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'tokenmirror\\_%' AND tgrelid IN ($1::regclass, $2::regclass))
        + (SELECT count(*) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $3 AND p.proname = 'tokenmirror_write'))::int AS count`,
      values: [auth, config, schema],
    },
    expectedAttached: 11,
    /** Each right that is needed at run time, with whether this user has it. */
    rights: `SELECT needed.right, needed.object, CASE needed.kind
        WHEN 'schema' THEN has_schema_privilege(needed.object, needed.right)
        WHEN 'sequence' THEN has_sequence_privilege(needed.object, needed.right)
        ELSE has_table_privilege(needed.object, needed.right) END AS granted
      FROM (VALUES ('schema', ${literal(schema)}, 'USAGE'),
        ${[auth, config, entries].flatMap((table) => ['SELECT', 'INSERT', 'UPDATE', 'DELETE'].map((right) => `('table', ${literal(table)}, '${right}')`)).join(', ')},
        ('table', ${literal(meta)}, 'SELECT'), ('table', ${literal(history)}, 'SELECT'), ('table', ${literal(history)}, 'INSERT'), ('table', ${literal(history)}, 'DELETE'),
        ('sequence', ${literal(sequence)}, 'USAGE')) AS needed(kind, object, "right")`,

    writeMeta: `INSERT INTO ${meta} (name, value) VALUES ('format', '${JSON.stringify(CURRENT_FORMAT)}'), ('cluster', $1) ON CONFLICT (name) DO NOTHING`,
    readMeta: `SELECT name, value FROM ${meta}`,
    /** Within one transaction, under the lock of all writers. */
    adopt: [
      `SELECT ${lock}`,
      adoptRows(
        `SELECT 'auths/' || id AS key FROM ${auth} UNION ALL SELECT CASE id WHEN '${CONFIG_ROW_ID}' THEN 'config/config.yaml' ELSE 'config/' || id END FROM ${config}`,
      ),
    ],
    unadopted: `SELECT EXISTS (SELECT FROM ${auth} a WHERE NOT EXISTS (SELECT FROM ${entries} e WHERE e.key = 'auths/' || a.id AND e.state = 'live')) AS found`,

    now: 'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now',
    listAll: `SELECT cluster.value->>'id' AS cluster, entry.key, entry.revision::text AS revision,
        CASE WHEN entry.state = 'live' AND entry.content IS NULL AND a.id IS NULL AND c.id IS NULL THEN 'absent' ELSE entry.state END AS state
      FROM ${meta} cluster LEFT JOIN ${entries} entry ON true
        LEFT JOIN ${auth} a ON entry.key LIKE 'auths/%' AND a.id = substr(entry.key, 7)
        LEFT JOIN ${config} c ON entry.key = 'config/config.yaml' AND c.id = '${CONFIG_ROW_ID}'
      WHERE cluster.name = 'cluster'`,
    listSince: `SELECT cluster.value->>'id' AS cluster, entry.key, entry.revision::text AS revision, entry.state, (SELECT max(revision) FROM ${entries})::text AS newest
      FROM ${meta} cluster LEFT JOIN ${entries} entry ON entry.revision > $1::bigint WHERE cluster.name = 'cluster'`,
    /** What is there where Tokenmirror has never been. */
    listPlain: (tables: readonly string[]): string =>
      [
        ...(tables.includes(authTable) ? [`SELECT 'auths/' || id AS key, md5(content::text) AS revision FROM ${auth}`] : []),
        ...(tables.includes(configTable) ? [`SELECT 'config/config.yaml', md5(content) FROM ${config} WHERE id = '${CONFIG_ROW_ID}'`] : []),
      ].join(' UNION ALL '),
    readPlain: (tables: readonly string[]): string =>
      [
        ...(tables.includes(authTable)
          ? [
              `SELECT 'auths/' || id AS key, md5(content::text) AS revision, content::text AS content FROM ${auth} WHERE id = ANY(SELECT substr(k, 7) FROM unnest($1::text[]) k WHERE k LIKE 'auths/%')`,
            ]
          : []),
        ...(tables.includes(configTable)
          ? [
              `SELECT 'config/config.yaml', md5(content), content FROM ${config} WHERE id = '${CONFIG_ROW_ID}' AND 'config/config.yaml' = ANY($1)`,
            ]
          : []),
      ].join(' UNION ALL '),
    read: `SELECT cluster.value->>'id' AS cluster, entry.key, entry.revision::text AS revision, entry.state, entry.lineage, coalesce(entry.content, a.content::text, c.content) AS content
      FROM ${meta} cluster LEFT JOIN ${entries} entry ON entry.key = ANY($1)
        LEFT JOIN ${auth} a ON entry.state = 'live' AND a.id = substr(entry.key, 7) AND entry.key LIKE 'auths/%'
        LEFT JOIN ${config} c ON entry.state = 'live' AND entry.key = 'config/config.yaml' AND c.id = '${CONFIG_ROW_ID}'
      WHERE cluster.name = 'cluster'`,

    /** One compare-and-set per key, all in one call: no lock outlives a round trip. Answers the written keys with their revisions. */
    write: `SELECT key, revision FROM ${at('tokenmirror_write')}($1, $2, $3, $4, $5, $6)`,
    /** The same, all of it or nothing: a part that does not fit divides by zero, which takes back what was written. */
    writeTogether: `WITH written AS MATERIALIZED (SELECT key, revision FROM ${at('tokenmirror_write')}($1, $2, $3, $4, $5, $6))
      SELECT key, revision, 1 / (CASE WHEN (SELECT count(*) FROM written) = cardinality($2::text[]) THEN 1 ELSE 0 END) FROM written`,

    versions: `SELECT id::text AS id, extract(epoch FROM at) * 1000 AS at, reason, author FROM ${history} WHERE key = $1 ORDER BY id DESC LIMIT $2`,
    version: `SELECT content FROM ${history} WHERE key = $1 AND id = $2::bigint`,
    archive: `INSERT INTO ${history} (key, content, reason, author) SELECT $1, $2, $3, $4 WHERE $2 IS DISTINCT FROM (SELECT content FROM ${history} WHERE key = $1 ORDER BY id DESC LIMIT 1)`,
  };
}

export type Statements = ReturnType<typeof statements>;

/** The notification channel of a schema; identifiers end at 63 bytes. */
function channelOf(schema: string): string {
  const safe = schema.replace(/[^A-Za-z0-9_]/g, (c) => `_${c.charCodeAt(0).toString(16)}`);
  return `tokenmirror_${safe}`.slice(0, 63);
}
