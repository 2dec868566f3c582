import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TokenmirrorError } from '@tokenmirror/core';
import { readDsn } from '@tokenmirror/store-postgres';

describe('a DSN', () => {
  test.each([
    [
      'postgres://user:p%40ss@db.example:6543/cliproxy?sslmode=disable',
      { host: 'db.example', port: 6543, user: 'user', password: 'p@ss', database: 'cliproxy' },
    ],
    [
      "host=db.example port=6543 user=user password='p@ss' dbname=cliproxy sslmode=disable",
      { host: 'db.example', port: 6543, user: 'user', password: 'p@ss', database: 'cliproxy' },
    ],
    ['postgresql:///cliproxy?host=/var/run/postgresql&user=me', { host: '/var/run/postgresql', database: 'cliproxy', user: 'me' }],
    ["user=me password='it\\'s'", { host: 'localhost', port: 5432, user: 'me', password: "it's", database: 'me' }],
    ['postgres://[::1]:5433/db', { host: '::1', port: 5433, database: 'db' }],
  ])('%s is understood', (dsn, client) => {
    expect(readDsn(dsn).client).toMatchObject(client);
  });

  test("pgx's own parameters are understood or set aside", () => {
    const plan = readDsn(
      'postgres://h/d?pool_max_conns=7&pool_min_conns=2&default_query_exec_mode=exec&connect_timeout=3&application_name=me',
    );
    expect(plan.poolSize).toBe(7);
    expect(plan.client).toMatchObject({ connectionTimeoutMillis: 3000, application_name: 'me' });
  });

  test.each([
    ['disable', false],
    ['require', { rejectUnauthorized: false }],
    ['verify-full', { rejectUnauthorized: true }],
  ])('sslmode=%s means what it means to libpq', (mode, ssl) => {
    const { client } = readDsn(`postgres://h/d?sslmode=${mode}`);
    if (typeof ssl === 'boolean') expect(client.ssl).toBe(ssl);
    else expect(client.ssl).toMatchObject(ssl);
  });

  test.each([
    ['', 'empty'],
    ['mysql://h/d', 'neither a URL nor'],
    ['postgres://h:port/d', 'not a valid URL'],
    ['postgres://h/d?sslmode=sometimes', 'unknown sslmode'],
    ['postgres://h/d?pool_max_conn=3', '"pool_max_conn"'],
    ['postgres://h/d?pool_max_conns=many', 'pool_max_conns'],
    ['postgres://h/d?half-of-a-p@ssword=1', 'a parameter that is not understood'],
    ['postgres://h/d?sslmode=verify-full&sslrootcert=/no/such/file', 'sslrootcert'],
  ])('%j is refused with a reason', (dsn, reason) => {
    expect(() => readDsn(dsn)).toThrow(expect.objectContaining({ code: 'STORE_INVALID', message: expect.stringContaining(reason) }));
  });

  test('whatever it is, an error never repeats its password', () => {
    fc.assert(
      fc.property(fc.string(), fc.constantFrom('postgres://u:hunter2@', 'password=hunter2 ', "password='hunter2' "), (rest, start) => {
        try {
          readDsn(start + rest);
        } catch (error) {
          expect(error).toBeInstanceOf(TokenmirrorError);
          expect(`${(error as TokenmirrorError).message} ${(error as TokenmirrorError).remedy}`).not.toContain('hunter2');
        }
      }),
      { numRuns: 2000 },
    );
  });
});
