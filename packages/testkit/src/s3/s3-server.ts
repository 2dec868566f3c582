import { fork, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from '../free-port.js';
import { until } from '../until.js';

const MAIN = fileURLToPath(new URL('../../dist/s3/main.js', import.meta.url));

/** How a bucket is reached. */
export interface S3Access {
  readonly endpoint: string;
  readonly bucket: string;
  readonly region: string;
  readonly accessKey: string;
  readonly secretKey: string;
}

/** A real S3 server of its own with one bucket: R2's, from binaries that npm installed. */
export class S3Server {
  readonly access: S3Access;
  readonly #directory: string;
  readonly #port: number;
  #process: ChildProcess | undefined;

  private constructor(port: number) {
    this.#port = port;
    this.#directory = mkdtempSync(join(tmpdir(), 'tokenmirror-s3-'));
    this.access = {
      endpoint: `http://127.0.0.1:${String(port)}/cdn-cgi/local/r2/s3`,
      bucket: 'test-bucket',
      region: 'auto',
      accessKey: 'access-key-of-the-tests',
      secretKey: 'secret-key-of-the-tests',
    };
  }

  static async create(): Promise<S3Server> {
    const server = new S3Server(await freePort());
    await server.start();
    return server;
  }

  async start(): Promise<void> {
    const { bucket, accessKey, secretKey } = this.access;
    let isReady = false;
    const child = fork(MAIN, [String(this.#port), bucket, accessKey, secretKey, this.#directory], { stdio: 'ignore', execArgv: [] });
    child.on('message', () => (isReady = true));
    this.#process = child;
    await until('the S3 server answers', () => {
      if (child.exitCode !== null) throw new Error('the S3 server ended');
      return isReady;
    });
  }

  /** Stops at once; the objects stay. */
  async stop(): Promise<void> {
    const server = this.#process;
    if (server === undefined || server.exitCode !== null) return;
    const exited = new Promise((resolve) => server.once('exit', resolve));
    server.disconnect();
    await exited;
    this.#process = undefined;
  }

  async destroy(): Promise<void> {
    await this.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
