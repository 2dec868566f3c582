import { expiryOf, isCredentialKey, type Workspace } from '@tokenmirror/core';

/** When the access token of each credential in use ends, in ms since the epoch, where its file says so. */
export async function credentialExpiries(workspace: Workspace): Promise<ReadonlyMap<string, number>> {
  const found = new Map<string, number>();
  if (workspace.presence() === 'missing') return found;
  for (const { key } of (await workspace.scan()).files) {
    if (!isCredentialKey(key)) continue;
    const reading = await workspace.read(key);
    const fields = reading.state === 'document' && reading.document.kind === 'credential' ? reading.document.fields : undefined;
    const expires = fields === undefined || fields['disabled'] === true ? undefined : expiryOf(fields);
    if (expires !== undefined) found.set(key, expires);
  }
  return found;
}
