import { parseSince } from '@tokenmirror/key-expiry';
import type { UsageAnswers } from '@tokenmirror/telegram';
import type { Questions, UsageLine } from '@tokenmirror/usage';
import { systemClock } from '../system-clock.js';

const LINES = 15;

/** The same questions, answered in a chat. */
export function usageAnswers(questions: () => Questions): UsageAnswers {
  const since = (text: string): number => parseSince(text, systemClock.now());
  return {
    key: async (reference, text) => line(await questions().key(reference, since(text)), questions().currency),
    account: async (email, text) => line(await questions().account(email, since(text)), questions().currency),
    top: async (text) => {
      const lines = await questions().top('key', since(text), LINES);
      return lines.length === 0
        ? 'Nothing was used.'
        : lines.map((each, n) => `${String(n + 1)}. ${line(each, questions().currency)}`).join('\n');
    },
  };
}

function line({ name, owner, requests, failed, total, cost }: UsageLine, currency = ''): string {
  const words = [
    owner === undefined || owner === '' ? name : `${name} (${owner})`,
    `${String(requests)} requests${failed === 0 ? '' : `, ${String(failed)} failed`}`,
    `${total.toLocaleString('en')} tokens`,
    ...(cost === undefined ? [] : [`about ${cost.toFixed(2)} ${currency}`]),
  ];
  return words.join(' · ');
}
