import { messageOf, TokenmirrorError } from '@tokenmirror/core';
import { hasCode } from '@tokenmirror/files';

/** Turns a failure of the disk under a store into an error with a remedy. */
export function explain(error: unknown, directory: string): unknown {
  if (error instanceof TokenmirrorError) return error;
  const isLink = (error as NodeJS.ErrnoException | undefined)?.syscall === 'link';
  if (hasCode(error, 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS') || (isLink && hasCode(error, 'EPERM'))) {
    return new TokenmirrorError(
      'STORE_UNSUITABLE',
      `the file system of ${directory} has no hard links`,
      'Name a directory on another file system (ext4, xfs, btrfs, APFS, NFS).',
      { cause: error },
    );
  }
  if (hasCode(error, 'EACCES', 'EPERM', 'EROFS')) {
    return new TokenmirrorError(
      'STORE_DENIED',
      `the store directory ${directory} cannot be read or written (${messageOf(error)})`,
      'Give the user that runs Tokenmirror the right to read and write it.',
      { cause: error },
    );
  }
  if (hasCode(error, 'ENOSPC', 'EDQUOT')) {
    return new TokenmirrorError(
      'STORE_FULL',
      `the disk of the store directory ${directory} is full`,
      'Free some space; it is tried again by itself.',
      { cause: error },
    );
  }
  if (hasCode(error, 'ENOENT', 'ENOTDIR', 'EIO', 'ESTALE', 'EHOSTDOWN', 'ENODEV', 'ENXIO')) {
    return new TokenmirrorError(
      'STORE_UNREACHABLE',
      `the store directory ${directory} is not there (${messageOf(error)})`,
      'Mount or restore it; Tokenmirror goes on by itself.',
      { cause: error },
    );
  }
  return error;
}
