import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { OPTION_NAMES, environmentOf } from '@tokenmirror/service';

const ROOT = join(import.meta.dirname, '../..');

interface Service {
  readonly image: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly healthcheck?: object;
  readonly volumes?: readonly string[];
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>;
}

test('docker-compose.postgres.yml: known variables only, no password in it, and everything waits for what it needs', () => {
  const text = readFileSync(join(ROOT, 'docker-compose.postgres.yml'), 'utf8');
  const { services, volumes } = parse(text) as { services: Record<string, Service>; volumes: Record<string, unknown> };
  const known = OPTION_NAMES.flatMap((name) => environmentOf(name));
  for (const name of Object.keys(services['tokenmirror']?.environment ?? {})) expect(known).toContain(name);
  expect(services['postgres']).toMatchObject({ image: 'postgres:${POSTGRES_VERSION:-17}-alpine', healthcheck: expect.anything() });
  expect(services['tokenmirror']?.depends_on).toEqual({ postgres: { condition: 'service_healthy' } });
  expect(services['cliproxyapi']?.depends_on).toEqual({ tokenmirror: { condition: 'service_healthy' } });
  for (const { volumes: mounted = [] } of Object.values(services))
    for (const mount of mounted) expect(Object.keys(volumes)).toContain(mount.split(':')[0]);
  expect(services['postgres']?.environment?.['POSTGRES_PASSWORD']).toMatch(/^\$\{POSTGRES_PASSWORD:\?[^}]*\}$/);
  expect(services['tokenmirror']?.environment?.['PGSTORE_DSN']).toMatch(/ password='\$\{POSTGRES_PASSWORD:\?[^}]*\}' /);
  const example = readFileSync(join(ROOT, '.env.example'), 'utf8');
  for (const [, name = ''] of text.matchAll(/\$\{([A-Z_]+):\?/g)) expect(example).toContain(`${name}=`);
});
