import { join } from 'node:path';
import { afterAll, beforeAll, describe, test } from '@jest/globals';
import { describeConformance, type Place } from '@tokenmirror/store-conformance';
import { GitStore } from '@tokenmirror/store-git';
import { cleanTemporaryDirectories, git, GIT_TOKEN, GIT_USER, GitClone, GitServer, temporaryDirectory } from '@tokenmirror/testkit';

const CLUSTER = '.tokenmirror/cluster.json';

let server: GitServer;
let count = 0;

beforeAll(async () => {
  server = await GitServer.create();
});
afterAll(async () => {
  await server.stop();
  cleanTemporaryDirectories();
});

function placeAt(path: string, url: string): Place {
  const clones = temporaryDirectory('clones');
  const clone = new GitClone(path);
  const commit = (files: Readonly<Record<string, string | null>>): Promise<void> => {
    clone.commit(files);
    return Promise.resolve();
  };
  return {
    connect: () => new GitStore({ url, username: GIT_USER, token: GIT_TOKEN, cloneDirectory: clones }),
    foreign: {
      write: (name, content) => commit({ [name]: content }),
      remove: (name) => commit({ [name]: null }),
      removalShows: 'deleted' as const,
    },
    loseIdentity: () => commit({ [CLUSTER]: null }),
    setFormat: (format, oldestReader) => {
      const stored = JSON.parse(git(['show', `main:${CLUSTER}`], path)) as object;
      return commit({ [CLUSTER]: JSON.stringify({ ...stored, format, oldestReader }) });
    },
    destroy: () => Promise.resolve(),
  };
}

describeConformance(
  {
    name: 'the git store over HTTP',
    create: () => {
      const name = `repository-${String((count += 1))}`;
      return Promise.resolve(placeAt(server.path(name), server.url(name)));
    },
  },
  { describe, test },
);

describeConformance(
  {
    name: 'the git store in a bare repository of this machine',
    create: () => {
      const path = join(temporaryDirectory('local'), 'bare.git');
      git(['init', '--quiet', '--bare', '--initial-branch=main', path], '/');
      return Promise.resolve(placeAt(path, path));
    },
  },
  { describe, test },
);
