import { describe, test } from '@jest/globals';
import { describeConformance } from '@tokenmirror/store-conformance';
import { PostgresStore } from '@tokenmirror/store-postgres';
import { createSchema, UpstreamPostgres } from '@tokenmirror/testkit';

describeConformance(
  {
    name: 'the Postgres store',
    create: async () => {
      const schema = await createSchema();
      const upstream = new UpstreamPostgres(schema);
      return {
        connect: () => new PostgresStore({ dsn: schema.dsn, schema: schema.schema }),
        foreign: {
          write: (name, content) => upstream.saveCredential(name.slice('auths/'.length), content),
          remove: (name) => upstream.deleteCredential(name.slice('auths/'.length)),
          removalShows: 'deleted' as const,
        },
        loseIdentity: async () => {
          await schema.query("DELETE FROM tokenmirror_meta WHERE name = 'cluster'");
        },
        setFormat: async (format, oldestReader) => {
          await schema.query("UPDATE tokenmirror_meta SET value = $1 WHERE name = 'format'", [JSON.stringify({ format, oldestReader })]);
        },
        destroy: () => schema.destroy(),
      };
    },
  },
  { describe, test },
);
