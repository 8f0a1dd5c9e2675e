"""Tests of the console, in Chromium and in Node.js."""
