import { confirm, isCancel } from '@clack/prompts';
import { TokenmirrorError } from '@tokenmirror/core';

/** Asks before something that cannot be taken back. Without a terminal, `--yes` has to say it. @throws TokenmirrorError USAGE */
export async function mustAgree(isAgreed: boolean, warning: string, question: string): Promise<void> {
  if (isAgreed) return;
  if (!process.stdin.isTTY) throw new TokenmirrorError('USAGE', `this needs a yes. ${warning}`, 'Add --yes if you are sure.');
  const answer = await confirm({ message: `${warning} ${question}`, initialValue: false });
  if (isCancel(answer) || !answer) throw new TokenmirrorError('USAGE', 'nothing was changed', 'Answer yes, or add --yes, to go on.');
}
