import { createHash } from 'node:crypto';
import { shownName } from '@tokenmirror/core';

/** A credential's name as it may stand in metrics and messages: `claude-m***@example.com#3f2a`. The four digits tell apart what looks alike. */
export function maskedName(name: string): string {
  const bare = shownName(name.replace(/^auths\//, '').replace(/\.json$/, ''));
  const digits = createHash('sha256').update(name).digest('hex').slice(0, 4);
  return `${bare.replace(/([^/@-])[^/@-]*@/, '$1***@')}#${digits}`;
}
