import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkFormat, CURRENT_FORMAT } from '@tokenmirror/core';
import { hasCode, replaceFile } from '@tokenmirror/files';

/** The dot-file in the auth directory: the replica's id, and the proof that this is the directory that was mirrored. */
export const MARKER_NAME = '.tokenmirror-replica';

/** @throws what the file system says of a marker that is there and cannot be read; TokenmirrorError FORMAT_NEWER */
export function readMarker(authDir: string): string | undefined {
  let text: string;
  try {
    text = readFileSync(join(authDir, MARKER_NAME), 'utf8');
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return undefined;
    throw error;
  }
  try {
    const marker = JSON.parse(text) as { id?: unknown };
    checkFormat(marker, `the marker ${join(authDir, MARKER_NAME)}`);
    return typeof marker.id === 'string' && /^[A-Za-z0-9_-]{8,64}$/.test(marker.id) ? marker.id : undefined;
  } catch (error) {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

export async function writeMarker(authDir: string, replicaId: string): Promise<void> {
  await replaceFile(join(authDir, MARKER_NAME), `${JSON.stringify({ ...CURRENT_FORMAT, id: replicaId })}\n`);
}
