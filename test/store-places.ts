import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createSchema, git, GitClone, temporaryDirectory, TestBucket, UpstreamPostgres } from '@tokenmirror/testkit';

/** An empty place for a store, and what somebody who knows nothing of Tokenmirror sees and does there. Paths are `auths/…` or `config/config.yaml`. */
export interface StorePlace {
  /** What tells the command of it. */
  readonly environment: Readonly<Record<string, string>>;
  foreignWrite(path: string, text: string): Promise<void>;
  foreignRemove(path: string): Promise<void>;
  stored(path: string): Promise<string | undefined>;
  /** Every document, whatever it is called. */
  names(): Promise<string[]>;
  destroy(): Promise<void>;
}

function filesystemPlace(): Promise<StorePlace> {
  const directory = join(temporaryDirectory('place'), 'store');
  const at = (path: string): string => join(directory, path);
  return Promise.resolve({
    environment: { TOKENMIRROR_FILESYSTEM_PATH: directory },
    foreignWrite: (path, text) => {
      mkdirSync(dirname(at(path)), { recursive: true });
      writeFileSync(at(path), text);
      return Promise.resolve();
    },
    foreignRemove: (path) => {
      rmSync(at(path));
      return Promise.resolve();
    },
    stored: (path) => Promise.resolve(existsSync(at(path)) ? readFileSync(at(path), 'utf8') : undefined),
    names: () =>
      Promise.resolve(
        ['auths', 'config'].flatMap((folder) => (existsSync(at(folder)) ? readdirSync(at(folder)).map((name) => `${folder}/${name}`) : [])),
      ),
    destroy: () => Promise.resolve(),
  });
}

async function postgresPlace(): Promise<StorePlace> {
  const schema = await createSchema();
  const upstream = new UpstreamPostgres(schema);
  return {
    environment: { PGSTORE_DSN: schema.dsn, PGSTORE_SCHEMA: schema.schema },
    foreignWrite: async (path, text) => {
      await upstream.install();
      await (path.startsWith('auths/') ? upstream.saveCredential(path.slice(6), text) : upstream.saveConfig(text));
    },
    foreignRemove: (path) => upstream.deleteCredential(path.slice(6)),
    stored: async (path) => {
      const { credentials, config } = await upstream.boot();
      if (!path.startsWith('auths/')) return config;
      const found = credentials.get(path.slice(6));
      return found === undefined ? undefined : JSON.stringify(found);
    },
    names: async () => {
      const { credentials, config } = await upstream.boot();
      return [...[...credentials.keys()].map((id) => `auths/${id}`), ...(config === undefined ? [] : ['config/config.yaml'])];
    },
    destroy: () => schema.destroy(),
  };
}

function s3Place(): Promise<StorePlace> {
  const bucket = new TestBucket();
  return Promise.resolve({
    environment: { ...bucket.environment, TOKENMIRROR_S3_LISTING_INTERVAL: '500ms' },
    foreignWrite: (path, text) => bucket.put(path, text),
    foreignRemove: (path) => bucket.remove(path),
    stored: (path) => bucket.get(path),
    names: async () => [...(await bucket.names('auths/')), ...(await bucket.names('config/'))],
    destroy: () => bucket.destroy(),
  });
}

/** Bare, on this machine: what HTTP adds is tested where it matters. */
function gitPlace(): Promise<StorePlace> {
  const path = join(temporaryDirectory('place'), 'repository.git');
  git(['init', '--quiet', '--bare', '--initial-branch=main', path], '/');
  const clone = new GitClone(path);
  const files = (): string[] => {
    clone.pull();
    return git(['ls-files', '-z', 'auths', 'config'], clone.directory)
      .split('\0')
      .filter((name) => name !== '' && !name.endsWith('/.gitkeep'));
  };
  return Promise.resolve({
    environment: { GITSTORE_GIT_URL: path },
    foreignWrite: (name, text) => {
      clone.commit({ [name]: text });
      return Promise.resolve();
    },
    foreignRemove: (name) => {
      clone.commit({ [name]: null });
      return Promise.resolve();
    },
    stored: (name) => Promise.resolve(files().includes(name) ? readFileSync(join(clone.directory, name), 'utf8') : undefined),
    names: () => Promise.resolve(files()),
    destroy: () => Promise.resolve(),
  });
}

export const STORE_PLACES = { filesystem: filesystemPlace, postgres: postgresPlace, s3: s3Place, git: gitPlace } as const satisfies Record<
  string,
  () => Promise<StorePlace>
>;

export type StoreKind = keyof typeof STORE_PLACES;
