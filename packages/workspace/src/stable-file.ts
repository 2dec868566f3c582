import { closeSync, constants, fstatSync, openSync, readSync, type BigIntStats } from 'node:fs';
import type { StatHint, WrittenAt } from '@tokenmirror/core';
import { hasCode } from '@tokenmirror/files';

export type FileReading =
  | { readonly state: 'content'; readonly bytes: Buffer; readonly stat: StatHint; readonly written: WrittenAt }
  | { readonly state: 'absent' }
  /** A symbolic link, which was not followed. */
  | { readonly state: 'link' }
  | { readonly state: 'changing' }
  | { readonly state: 'too large'; readonly size: number }
  | { readonly state: 'unreadable'; readonly reason: string };

/**
 * Reads a small file in one go and says `changing` when it was written meanwhile. Synchronous: for files of a few kilobytes on a local
 * disk that takes some 20 µs, a tenth of what a promise chain costs.
 */
export function readWholeFile(path: string, maxBytes: number, followLink = false): FileReading {
  let descriptor: number;
  try {
    descriptor = openSync(path, followLink ? constants.O_RDONLY : constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch (error) {
    if (hasCode(error, 'ENOENT', 'ENOTDIR')) return { state: 'absent' };
    if (!followLink && hasCode(error, 'ELOOP', 'EMLINK')) return { state: 'link' };
    return { state: 'unreadable', reason: reasonOf(error) };
  }
  try {
    const before = fstatSync(descriptor, { bigint: true });
    if (!before.isFile()) return { state: 'unreadable', reason: 'it is not a regular file' };
    if (before.size > BigInt(maxBytes)) return { state: 'too large', size: Number(before.size) };
    const size = Number(before.size);
    const buffer = Buffer.alloc(size + 1);
    let length = 0;
    for (;;) {
      const read = readSync(descriptor, buffer, length, buffer.length - length, length);
      length += read;
      if (read === 0 || length === buffer.length) break;
    }
    const stat = hintOf(before);
    if (length !== size || !isSame(stat, hintOf(fstatSync(descriptor, { bigint: true })))) return { state: 'changing' };
    return {
      state: 'content',
      bytes: buffer.subarray(0, length),
      stat,
      written: { mtime: Number(before.mtimeMs), ctime: Number(before.ctimeMs) },
    };
  } catch (error) {
    return { state: 'unreadable', reason: reasonOf(error) };
  } finally {
    closeSync(descriptor);
  }
}

export function hintOf(stat: BigIntStats): StatHint {
  return { size: Number(stat.size), ino: stat.ino.toString(), mtimeNs: stat.mtimeNs.toString(), ctimeNs: stat.ctimeNs.toString() };
}

function isSame(a: StatHint, b: StatHint): boolean {
  return a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs;
}

function reasonOf(error: unknown): string {
  if (hasCode(error, 'EACCES', 'EPERM')) return 'it cannot be read by this user (permission denied)';
  return `it cannot be read (${(error as NodeJS.ErrnoException).code ?? 'unknown error'})`;
}
