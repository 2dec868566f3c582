export * from './commands.js';
export * from './telegram-bot.js';
