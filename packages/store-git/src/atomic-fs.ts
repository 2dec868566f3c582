import fs from 'node:fs';
import { replaceFile } from '@tokenmirror/files';
import type { PromiseFsClient } from 'isomorphic-git';

/** The file system for the git library: what it writes appears whole, and private to the user. */
export function atomicFs(options: { readonly durable: boolean }): PromiseFsClient {
  const writeFile = async (path: string, content: string | Uint8Array): Promise<void> => {
    await replaceFile(path, content, { durable: options.durable });
  };
  const mkdir = (path: string): Promise<unknown> => fs.promises.mkdir(path, { mode: 0o700 });
  return { promises: { ...fs.promises, writeFile, mkdir } };
}
