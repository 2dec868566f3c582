/** Two replicas in this terminal, what happens to their files, and what the engine does about it. */
import { existsSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { color, place, replica, store, tell } from './stage.mjs';

const DESCRIPTIONS = {
  push: 'sent to the store',
  pull: 'took from the store',
  merge: 'merged both sides',
  'delete-local': 'deleted here',
  'delete-remote': 'deleted in the store',
};

/** No proxy runs here that would use up a refresh token, so every workspace may have them. */
const joined = (name) =>
  replica(name, { custody: 'off' }, (happened) => {
    if (happened.type !== 'acted') return;
    const conflict =
      happened.conflicts.length > 0
        ? color(33, `  conflict in ${happened.conflicts.join(', ')}: the store's value stays, the other is in its history`)
        : '';
    tell(name, `${DESCRIPTIONS[happened.action]}: ${happened.key} ${color(2, `(${happened.because})`)}${conflict}`);
  });

let grants = 0;
const grant = () => {
  grants += 1;
  const at = (hours) => new Date(Date.now() + hours * 3_600_000 + grants * 1000).toISOString();
  return { access_token: `demo-access-${grants}`, refresh_token: `demo-refresh-${grants}`, last_refresh: at(0), expired: at(8) };
};
const credential = (more = {}) => ({ type: 'claude', email: 'me@example.com', disabled: false, ...grant(), ...more });
const write = (where, name, value) => writeFileSync(join(where.auths, name), JSON.stringify(value));
const read = (where, name) => JSON.parse(readFileSync(join(where.auths, name), 'utf8'));
async function wait(condition) {
  while (!condition()) await delay(10);
  await delay(150);
}

const CLAUDE = 'claude-me@example.com.json';
const CODEX = 'codex-me@example.com.json';
try {
  tell('you', `two replicas start, with one store in ${store}`);
  const [laptop, server] = [await joined('laptop'), await joined('server')];

  tell('you', 'log in on the laptop, twice');
  write(laptop, CLAUDE, credential());
  write(laptop, CODEX, credential({ type: 'codex' }));
  await wait(() => existsSync(join(server.auths, CLAUDE)) && existsSync(join(server.auths, CODEX)));

  for (let n = 1; n <= 3; n += 1) {
    tell('you', `CLIProxyAPI on the server renews the token (${n} of 3)`);
    const renewed = { ...read(server, CLAUDE), ...grant() };
    write(server, CLAUDE, renewed);
    await wait(() => read(laptop, CLAUDE).access_token === renewed.access_token);
  }

  tell('you', 'a note on the laptop and a priority on the server, at the same moment: both survive');
  write(laptop, CLAUDE, { ...read(laptop, CLAUDE), note: 'work account' });
  write(server, CLAUDE, { ...read(server, CLAUDE), priority: 7 });
  await wait(() => [laptop, server].every((each) => read(each, CLAUDE).note === 'work account' && read(each, CLAUDE).priority === 7));

  tell('you', 'two different notes at the same moment: a conflict');
  write(laptop, CLAUDE, { ...read(laptop, CLAUDE), note: 'from the laptop' });
  write(server, CLAUDE, { ...read(server, CLAUDE), note: 'from the server' });
  await wait(() => read(laptop, CLAUDE).note === read(server, CLAUDE).note && read(laptop, CLAUDE).note !== 'work account');

  tell('you', 'an accident: the credential on the server becomes {}');
  write(server, CLAUDE, {});
  await wait(() => read(server, CLAUDE).access_token !== undefined);

  tell('you', 'delete the second login on the laptop (a deletion is confirmed for 1.5 seconds)');
  unlinkSync(join(laptop.auths, CODEX));
  await wait(() => !existsSync(join(server.auths, CODEX)));

  for (const each of [laptop, server]) await each.end();
  tell('you', color(32, 'everything is equal everywhere. `npm start` runs it for real.'));
} finally {
  rmSync(place, { recursive: true, force: true });
}
