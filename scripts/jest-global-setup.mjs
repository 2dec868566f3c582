import { PostgresServer, TEST_POSTGRES_VARIABLE } from '@tokenmirror/testkit';

/** Starts one Postgres server for the whole run, unless the environment names one that is there already. */
export default async function setup() {
  if (process.env[TEST_POSTGRES_VARIABLE] !== undefined) return;
  const server = await PostgresServer.create();
  process.env[TEST_POSTGRES_VARIABLE] = server.url();
  globalThis.testPostgresServer = server;
}
