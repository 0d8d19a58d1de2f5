"""Who is alive: processes or pods, Ray's state API and Serve's REST, merged into a topology and watched."""
