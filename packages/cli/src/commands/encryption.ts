import type { Command } from 'commander';
import { EXIT_ATTENTION } from '@tokenmirror/core';
import { encryptionStatus, newKey, ReplicaFactory, rotateEncryption } from '@tokenmirror/service';
import { invoke, print, printJson } from '../context.js';
import { table } from '../output/table.js';

export function generateKey(): Promise<number> {
  print(newKey(new Date()));
  return Promise.resolve(0);
}

export async function status(command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const places = await encryptionStatus(container.resolve(ReplicaFactory), settings);
  if (settings.json) printJson(places);
  else
    print(
      table(
        ['PLACE', 'KEY', 'DOCUMENTS'],
        places.flatMap(({ place, documents }) => Object.entries(documents).map(([key, count]) => [place, key, String(count)])),
      ),
    );
  return places.every(({ current, total }) => current === total) ? 0 : EXIT_ATTENTION;
}

export async function rotate(command: Command): Promise<number> {
  const { settings, container } = await invoke(command);
  const places = await rotateEncryption(container.resolve(ReplicaFactory), settings);
  if (settings.json) printJson(places);
  else
    for (const { place, rewritten, left } of places) {
      print(`${place}: ${String(rewritten)} documents were written anew.`);
      for (const name of left) print(`  ${name} changed meanwhile, or cannot be decrypted; run it again, and see what the status says.`);
    }
  return places.every(({ left }) => left.length === 0) ? 0 : EXIT_ATTENTION;
}
