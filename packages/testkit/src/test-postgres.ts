import { randomBytes } from 'node:crypto';
import pg from 'pg';

/** Names the server that tests use: one that is there already, or the one that the test run started. */
export const TEST_POSTGRES_VARIABLE = 'TOKENMIRROR_TEST_POSTGRES_URL';

export interface TestSchema {
  readonly dsn: string;
  readonly schema: string;
  /** Runs SQL as somebody else; `auth_store` and the like are found in the schema. */
  query<Row extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<Row[]>;
  destroy(): Promise<void>;
}

/** A schema of its own on the test server, or on the server given. */
export async function createSchema(dsn = process.env[TEST_POSTGRES_VARIABLE]): Promise<TestSchema> {
  if (dsn === undefined) throw new Error(`${TEST_POSTGRES_VARIABLE} is not set`);
  const schema = `test_${randomBytes(6).toString('hex')}`;
  const pool = new pg.Pool({ connectionString: dsn, max: 4, options: `-c search_path=${schema}` });
  pool.on('error', () => undefined);
  await pool.query(`CREATE SCHEMA ${schema}`);
  return {
    dsn,
    schema,
    query: async <Row extends pg.QueryResultRow>(text: string, values?: unknown[]) => (await pool.query<Row>(text, values)).rows,
    destroy: async () => {
      await pool.query(`DROP SCHEMA IF EXISTS ${schema} CASCADE`);
      await pool.end();
    },
  };
}
