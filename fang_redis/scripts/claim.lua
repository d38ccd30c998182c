-- include claiming
return claim(ARGV)
