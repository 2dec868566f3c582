import { readFileSync } from 'node:fs';
import { messageOf, TokenmirrorError } from '@tokenmirror/core';
import { Keyring, parseKeys } from '@tokenmirror/encryption';
import type { Settings } from '../options/settings.js';

/** The keys that the settings give. @throws TokenmirrorError OPTION_INVALID */
export function encryptionKeys({ 'encryption-keys': keys, 'encryption-key-file': file }: Settings): Keyring {
  if (keys !== undefined && file !== undefined)
    throw new TokenmirrorError('OPTION_INVALID', 'encryption-keys and encryption-key-file are both set', 'Set one of them.');
  if (keys !== undefined) return parseKeys(keys, 'encryption-keys');
  if (file === undefined) return new Keyring([]);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new TokenmirrorError(
      'OPTION_INVALID',
      `encryption-key-file ${file} cannot be read (${messageOf(cause)})`,
      'Check its path and its rights.',
      { cause },
    );
  }
  const keyring = parseKeys(text, file);
  if (keyring.ids.length === 0)
    throw new TokenmirrorError(
      'OPTION_INVALID',
      `encryption-key-file ${file} holds no key`,
      'Write one with `tokenmirror encryption generate-key`.',
    );
  return keyring;
}
