import { announceTestS3, PostgresServer, S3Server, TEST_POSTGRES_VARIABLE, testS3 } from '@tokenmirror/testkit';

process.env.AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED = 'true';

/** Starts one Postgres and one S3 server for the whole run, unless the environment names some that are there already. */
export default async function setup() {
  globalThis.testServers = [];
  if (process.env[TEST_POSTGRES_VARIABLE] === undefined) {
    const postgres = await PostgresServer.create();
    process.env[TEST_POSTGRES_VARIABLE] = postgres.url();
    globalThis.testServers.push(postgres);
  }
  if (testS3() === undefined) {
    const s3 = await S3Server.create();
    announceTestS3(s3.access);
    globalThis.testServers.push(s3);
  }
}
