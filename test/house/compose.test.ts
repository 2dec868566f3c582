import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
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

interface ComposeFile {
  readonly text: string;
  readonly services: Readonly<Record<string, Service>>;
  readonly volumes: Readonly<Record<string, unknown>>;
}

function read(file: string): ComposeFile {
  const text = readFileSync(join(ROOT, file), 'utf8');
  return { text, ...(parse(text, { merge: true }) as Omit<ComposeFile, 'text'>) };
}

describe.each(['docker-compose.postgres.yml', 'docker-compose.s3.yml'])('%s', (file) => {
  const { text, services, volumes } = read(file);

  test('has a second replica with a disk of its own, that shares by custody and looks at its own proxy', () => {
    const [one, two] = [services['tokenmirror'], services['tokenmirror-2']];
    expect(two?.environment).toEqual({ ...one?.environment, TOKENMIRROR_CLIPROXY_URL: 'http://cliproxyapi-2:8317' });
    expect(one?.environment).toMatchObject({ TOKENMIRROR_CUSTODY: 'on', TOKENMIRROR_CLIPROXY_URL: 'http://cliproxyapi:8317' });
    expect([one?.volumes, two?.volumes]).toEqual([['workspace:/workspace'], ['workspace-2:/workspace']]);
    expect(services['cliproxyapi-2']).toMatchObject({ image: services['cliproxyapi']?.image, volumes: ['workspace-2:/workspace'] });
  });

  test('sets known variables only', () => {
    const known = OPTION_NAMES.flatMap((name) => environmentOf(name));
    for (const name of Object.keys(services['tokenmirror']?.environment ?? {})) expect(known).toContain(name);
  });

  test('mounts volumes that it declares', () => {
    for (const { volumes: mounted = [] } of Object.values(services))
      for (const mount of mounted) expect(Object.keys(volumes)).toContain(mount.split(':')[0]);
  });

  test('asks for every secret, in the example of .env too, and holds none', () => {
    const example = readFileSync(join(ROOT, '.env.example'), 'utf8');
    for (const [, name = ''] of text.matchAll(/\$\{([A-Z0-9_]+):\?/g)) expect(example).toContain(`\n${name}=\n`);
    for (const { environment = {} } of Object.values(services))
      for (const [name, value] of Object.entries(environment))
        if (/PASSWORD|SECRET|_KEY$/.test(name)) expect(value).toMatch(/^\$\{[A-Z0-9_]+:\?[^}]*\}$/);
  });

  test('starts nothing before what it needs is healthy or done', () => {
    expect(services['cliproxyapi']?.depends_on).toEqual({ tokenmirror: { condition: 'service_healthy' } });
    expect(services['cliproxyapi-2']?.depends_on).toEqual({ 'tokenmirror-2': { condition: 'service_healthy' } });
    for (const { depends_on: needs = {} } of Object.values(services)) {
      for (const [name, { condition }] of Object.entries(needs)) {
        const isLasting = condition === 'service_healthy';
        expect([name, services[name]?.healthcheck !== undefined]).toEqual([name, isLasting]);
        expect(['service_healthy', 'service_completed_successfully']).toContain(condition);
      }
    }
  });
});

test('docker-compose.postgres.yml hands the password over in a way that any character survives', () => {
  const { services } = read('docker-compose.postgres.yml');
  expect(services['postgres']).toMatchObject({ image: 'postgres:${POSTGRES_VERSION:-17}-alpine' });
  expect(services['tokenmirror']?.environment?.['PGSTORE_DSN']).toMatch(/ password='\$\{POSTGRES_PASSWORD:\?[^}]*\}' /);
});

test('docker-compose.s3.yml makes the buckets that it uses', () => {
  const { services, text } = read('docker-compose.s3.yml');
  const { OBJECTSTORE_BUCKET: bucket = '', OBJECTSTORE_BACKUP_BUCKET: backup = '' } = services['tokenmirror']?.environment ?? {};
  expect(text).toContain(`'/data/${bucket}', '/data/${backup}'`);
});
