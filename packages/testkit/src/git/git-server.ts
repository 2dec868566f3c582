import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { dirname, join } from 'node:path';
import { temporaryDirectory } from '../temporary-directory.js';

export const GIT_USER = 'git-user-of-the-tests';
export const GIT_TOKEN = 'git-token-of-the-tests';

/** A real git server over HTTP, with authentication: git's own `http-backend`. */
export class GitServer {
  readonly root: string;
  readonly #server: Server;
  /** Requests that were answered, as `GET /path?query`. */
  readonly requests: string[] = [];

  private constructor(root: string) {
    this.root = root;
    this.#server = createServer((request, response) => {
      this.#handle(request, response);
    });
  }

  static async create(): Promise<GitServer> {
    const server = new GitServer(temporaryDirectory('git-server'));
    await server.listen(0);
    return server;
  }

  async listen(port: number): Promise<void> {
    await new Promise<void>((resolve) => this.#server.listen(port, '127.0.0.1', resolve));
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new Error('the git server is closed');
    return address.port;
  }

  url(repository: string): string {
    return `http://127.0.0.1:${String(this.port)}/${repository}.git`;
  }

  /** The directory of a repository; made when it is new. */
  path(repository: string): string {
    const path = join(this.root, `${repository}.git`);
    git(['init', '--quiet', '--bare', '--initial-branch=main', path], this.root);
    const settings = { 'http.receivepack': 'true', 'receive.autogc': 'false', 'core.fsync': 'none' };
    for (const [name, value] of Object.entries(settings)) git(['config', name, value], path);
    return path;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #handle(request: IncomingMessage, response: ServerResponse): void {
    const url = new URL(request.url ?? '/', 'http://localhost');
    this.requests.push(`${request.method ?? ''} ${request.url ?? ''}`);
    const wanted = `Basic ${Buffer.from(`${GIT_USER}:${GIT_TOKEN}`).toString('base64')}`;
    if (request.headers.authorization !== wanted) {
      request.resume();
      response.writeHead(401, { 'www-authenticate': 'Basic realm="git"' }).end();
      return;
    }
    const backend = spawn('git', ['http-backend'], {
      env: {
        PATH: process.env['PATH'],
        GIT_PROJECT_ROOT: this.root,
        GIT_HTTP_EXPORT_ALL: '1',
        PATH_INFO: decodeURIComponent(url.pathname),
        QUERY_STRING: url.search.slice(1),
        REQUEST_METHOD: request.method,
        REMOTE_USER: GIT_USER,
        CONTENT_TYPE: request.headers['content-type'],
        CONTENT_LENGTH: request.headers['content-length'],
        HTTP_CONTENT_ENCODING: request.headers['content-encoding'],
        GIT_PROTOCOL: request.headers['git-protocol']?.toString(),
      },
    });
    request.pipe(backend.stdin).on('error', () => undefined);
    const output: Buffer[] = [];
    backend.stdout.on('data', (data: Buffer) => output.push(data));
    backend.on('close', () => {
      const answer = Buffer.concat(output);
      const end = answer.indexOf('\r\n\r\n');
      const headers = Object.fromEntries(
        answer
          .subarray(0, end)
          .toString()
          .split('\r\n')
          .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1).trim()] as const),
      );
      response.writeHead(Number(headers['Status']?.slice(0, 3) ?? 200), headers).end(answer.subarray(end + 4));
    });
  }
}

/** Runs the git command; its output. */
export function git(args: readonly string[], cwd: string): string {
  const { status, stdout, stderr } = spawnSync('git', args, {
    cwd,
    encoding: 'utf8',
    env: {
      PATH: process.env['PATH'],
      HOME: '/nonexistent',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_AUTHOR_NAME: 'Somebody',
      GIT_AUTHOR_EMAIL: 'somebody@example.com',
      GIT_COMMITTER_NAME: 'Somebody',
      GIT_COMMITTER_EMAIL: 'somebody@example.com',
    },
  });
  if (status !== 0) throw new Error(`git ${args.join(' ')} failed: ${stderr}`);
  return stdout;
}

/** What somebody with a clone of their own does to a repository, by its path. */
export class GitClone {
  readonly directory: string;

  constructor(repository: string) {
    this.directory = temporaryDirectory('git-clone');
    git(['clone', '--quiet', repository, this.directory], this.directory);
  }

  /** Commits files (`null` removes) on top of what is there, and pushes. */
  commit(files: Readonly<Record<string, string | null>>): void {
    this.pull();
    for (const [name, text] of Object.entries(files)) {
      const path = join(this.directory, name);
      if (text === null) git(['rm', '--quiet', name], this.directory);
      else {
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, text);
        git(['add', '--force', name], this.directory);
      }
    }
    git(['commit', '--quiet', '--message', 'by somebody'], this.directory);
    git(['push', '--quiet', 'origin', 'HEAD:main'], this.directory);
  }

  pull(): void {
    git(['fetch', '--quiet'], this.directory);
    const hasBranch = git(['branch', '--remotes'], this.directory).includes('origin/main');
    if (hasBranch) git(['reset', '--quiet', '--hard', 'origin/main'], this.directory);
  }
}
