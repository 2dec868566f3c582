import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A directory that is removed by `cleanTemporaryDirectories`, for an `afterEach` or `afterAll`. */
const made: string[] = [];

export function temporaryDirectory(name: string): string {
  const path = realpathSync(mkdtempSync(join(tmpdir(), `tokenmirror-${name}-`)));
  made.push(path);
  return path;
}

export function cleanTemporaryDirectories(): void {
  for (const path of made.splice(0)) rmSync(path, { recursive: true, force: true });
}
