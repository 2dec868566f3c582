import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  createSchema,
  git,
  GIT_TOKEN,
  GIT_USER,
  GitClone,
  GitServer,
  PostgresServer,
  S3Server,
  temporaryDirectory,
  TestBucket,
  UpstreamPostgres,
} from '@tokenmirror/testkit';

/** An empty place for a store, and what somebody who knows nothing of Tokenmirror sees and does there. Paths are `auths/…` or `config/config.yaml`. */
export interface StorePlace {
  /** What tells the command of it. */
  readonly environment: Readonly<Record<string, string>>;
  foreignWrite(path: string, text: string): Promise<void>;
  foreignRemove(path: string): Promise<void>;
  /** Every document, whatever it is called. */
  documents(): Promise<ReadonlyMap<string, string>>;
  /** Another value after every write of anyone. */
  head(): Promise<string>;
  destroy(): Promise<void>;
}

/** A place whose server is its own, and can be stopped; what it holds stays. */
export interface StoreServer extends StorePlace {
  down(): Promise<void>;
  up(): Promise<void>;
  /** Where the server listens, and what tells the command of it behind another port. */
  readonly network?: { readonly port: number; readonly environmentAt: (port: number) => Readonly<Record<string, string>> };
}

function filesystemServer(): Promise<StoreServer> {
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
    documents: () => Promise.resolve(filesBelow(directory)),
    head: () => Promise.resolve(readdirSync(at('.tokenmirror/log')).sort().at(-1) ?? ''),
    down: () => {
      renameSync(directory, `${directory}-away`);
      return Promise.resolve();
    },
    up: () => {
      renameSync(`${directory}-away`, directory);
      return Promise.resolve();
    },
    destroy: () => Promise.resolve(),
  });
}

async function postgresPlace(url?: string): Promise<StorePlace> {
  const schema = await createSchema(url);
  const upstream = new UpstreamPostgres(schema);
  return {
    environment: { PGSTORE_DSN: schema.dsn, PGSTORE_SCHEMA: schema.schema },
    foreignWrite: async (path, text) => {
      await upstream.install();
      await (path.startsWith('auths/') ? upstream.saveCredential(path.slice(6), text) : upstream.saveConfig(text));
    },
    foreignRemove: (path) => upstream.deleteCredential(path.slice(6)),
    documents: async () => {
      const { credentials, config } = await upstream.boot();
      const found = new Map([...credentials].map(([id, content]) => [`auths/${id}`, JSON.stringify(content)]));
      return config === undefined ? found : found.set('config/config.yaml', config);
    },
    head: async () => JSON.stringify(await schema.query('SELECT max(revision) FROM tokenmirror_entries')),
    destroy: () => schema.destroy().catch(() => undefined),
  };
}

async function postgresServer(): Promise<StoreServer> {
  const server = await PostgresServer.create();
  const place = await postgresPlace(server.url());
  const environmentAt = (port: number): Record<string, string> => {
    const url = new URL(server.url());
    url.port = String(port);
    return { ...place.environment, PGSTORE_DSN: url.href };
  };
  return {
    ...place,
    down: () => server.stop(),
    up: () => server.start(),
    network: { port: server.port, environmentAt },
    destroy: async () => {
      await place.destroy();
      await server.destroy();
    },
  };
}

function s3Place(access?: S3Server['access']): StorePlace {
  const bucket = new TestBucket(access);
  return {
    environment: { ...bucket.environment, TOKENMIRROR_S3_LISTING_INTERVAL: '500ms', TOKENMIRROR_POLL_INTERVAL: '200ms' },
    foreignWrite: (path, text) => bucket.put(path, text),
    foreignRemove: (path) => bucket.remove(path),
    documents: () => bucket.contents(['auths/', 'config/']),
    head: async () => (await bucket.get('.tokenmirror/cluster.json')) ?? '',
    destroy: () => bucket.destroy().catch(() => undefined),
  };
}

async function s3Server(): Promise<StoreServer> {
  const server = await S3Server.create();
  const place = s3Place(server.access);
  const environmentAt = (port: number): Record<string, string> => {
    const url = new URL(server.access.endpoint);
    url.port = String(port);
    return { ...place.environment, OBJECTSTORE_ENDPOINT: url.href };
  };
  return {
    ...place,
    down: () => server.stop(),
    up: () => server.start(),
    network: { port: Number(new URL(server.access.endpoint).port), environmentAt },
    destroy: () => server.destroy(),
  };
}

/** The documents of a bare repository, and what a person with a clone does to it. */
function repositoryAt(path: string): Omit<StorePlace, 'environment' | 'destroy'> {
  let clone: GitClone | undefined;
  const commit = (files: Readonly<Record<string, string | null>>): Promise<void> => {
    clone ??= new GitClone(path);
    clone.commit(files);
    return Promise.resolve();
  };
  const tip = (): string => {
    const ref = join(path, 'refs/heads/main');
    return existsSync(ref) ? readFileSync(ref, 'utf8') : '';
  };
  let seen: { readonly tip: string; readonly documents: ReadonlyMap<string, string> } = { tip: '', documents: new Map() };
  return {
    foreignWrite: (name, text) => commit({ [name]: text }),
    foreignRemove: (name) => commit({ [name]: null }),
    documents: () => {
      const now = tip();
      if (now !== seen.tip) {
        const checkout = temporaryDirectory('checkout');
        git([`--work-tree=${checkout}`, 'checkout', '--force', 'main', '--', '.'], path);
        seen = { tip: now, documents: filesBelow(checkout) };
        rmSync(checkout, { recursive: true });
      }
      return Promise.resolve(seen.documents);
    },
    head: () => Promise.resolve(tip()),
  };
}

/** On this machine, without a server: what HTTP adds is tested where it matters. */
function gitPlace(): Promise<StorePlace> {
  const path = join(temporaryDirectory('place'), 'repository.git');
  git(['init', '--quiet', '--bare', '--initial-branch=main', path], '/');
  return Promise.resolve({
    ...repositoryAt(path),
    environment: { GITSTORE_GIT_URL: path, TOKENMIRROR_POLL_INTERVAL: '200ms' },
    destroy: () => Promise.resolve(),
  });
}

async function gitServer(): Promise<StoreServer> {
  const server = await GitServer.create();
  const { port } = server;
  const environmentAt = (other: number): Record<string, string> => ({
    GITSTORE_GIT_URL: server.url('place').replace(String(port), String(other)),
    GITSTORE_GIT_USERNAME: GIT_USER,
    GITSTORE_GIT_TOKEN: GIT_TOKEN,
    TOKENMIRROR_GIT_CLONES: join(server.root, 'clones'),
    TOKENMIRROR_POLL_INTERVAL: '500ms',
  });
  return {
    ...repositoryAt(server.path('place')),
    environment: environmentAt(port),
    network: { port, environmentAt },
    down: () => server.stop(),
    up: () => server.listen(port),
    destroy: () => server.stop().catch(() => undefined),
  };
}

function filesBelow(directory: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const folder of ['auths', 'config']) {
    if (!existsSync(join(directory, folder))) continue;
    for (const name of readdirSync(join(directory, folder), { recursive: true, encoding: 'utf8' })) {
      if (name.startsWith('.') || !/\.(json|yaml)$/.test(name)) continue;
      const path = `${folder}/${name}`;
      try {
        found.set(path, readFileSync(join(directory, path), 'utf8'));
      } catch {
        continue;
      }
    }
  }
  return found;
}

export type StoreKind = 'filesystem' | 'postgres' | 's3' | 'git';

/** A place on the servers that the test run shares. */
export const STORE_PLACES: Readonly<Record<StoreKind, () => Promise<StorePlace>>> = {
  filesystem: filesystemServer,
  postgres: postgresPlace,
  s3: () => Promise.resolve(s3Place()),
  git: gitPlace,
};

/** A place with a server of its own. */
export const STORE_SERVERS: Readonly<Record<StoreKind, () => Promise<StoreServer>>> = {
  filesystem: filesystemServer,
  postgres: postgresServer,
  s3: s3Server,
  git: gitServer,
};
