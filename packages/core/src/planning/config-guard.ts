import type { ConfigDocument } from '../documents/document.js';
import { isJsonObject, type Json } from '../documents/strict-json.js';

const TEMPLATE_VALUES =
  /^(your-api-key(-\d+)?|your-secret(-key)?|your-management-(key|secret)|change-?me|replace-?me|placeholder|<.*>|\$\{.*\}|\{\{.*\}\})$/i;

/**
 * The reason why `candidate` must not replace `trusted`, or `undefined`. A config whose API keys or management secret are empty or template values, where
 * real ones stood, serves everyone or locks everyone out.
 */
export function opensTheDoor(candidate: ConfigDocument, trusted: ConfigDocument | undefined): string | undefined {
  if (trusted === undefined) return undefined;
  if (hasRealApiKeys(trusted) && !hasRealApiKeys(candidate))
    return 'its api-keys are empty or template values where real ones stood, which would open the proxy to everyone';
  if (hasRealSecret(trusted) && !hasRealSecret(candidate))
    return 'its remote-management.secret-key is empty or a template value where a real one stood';
  return undefined;
}

function hasRealApiKeys({ values }: ConfigDocument): boolean {
  const keys = values['api-keys'];
  return Array.isArray(keys) && keys.length > 0 && keys.every((key) => typeof key === 'string' && isReal(key));
}

function hasRealSecret({ values }: ConfigDocument): boolean {
  const management = values['remote-management'] as Json | undefined;
  const secret = isJsonObject(management) ? management['secret-key'] : undefined;
  return typeof secret === 'string' && isReal(secret);
}

function isReal(value: string): boolean {
  return value.trim() !== '' && !TEMPLATE_VALUES.test(value.trim());
}
