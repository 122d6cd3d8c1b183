"""The application's half: it registers, touches, holds. Here is the schema of what is stored. Imports redis alone."""
